# The two commands: `make demo` (clone to segmented video) and `make test` (everything, from nothing).
# PYTHON chooses the interpreter; each target has a virtual environment of its own.
PYTHON ?= python3
DEMO_VENV := .venv-demo
TEST_VENV := .venv-test
OUT := out/demo
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: demo test types suite test-ray clean

demo: $(DEMO_VENV)/.stamp
	PATH="$(CURDIR)/$(DEMO_VENV)/bin:$$PATH" bash export/street/demo.sh $(OUT)

$(DEMO_VENV)/.stamp: pyproject.toml constraints-export.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	@echo "installing segedge with its exporter and a CPU backend (once; PyTorch is the large part)"
	$(DEMO_VENV)/bin/pip install $(PIP_FLAGS) -c constraints-export.txt -e '.[export,openvino,cpu]'
	touch $@

test: $(TEST_VENV)/.stamp
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(MAKE) --no-print-directory --jobs=2 types suite

# The tests start hundreds of interpreters, which would compile segedge anew each time.
test: export PYTHONDONTWRITEBYTECODE :=

# One core for a minute where mypy has no cache yet: beside the tests.
types:
	$(TEST_VENV)/bin/mypy

suite:
	SEGEDGE_REQUIRE_RTX=1 $(TEST_VENV)/bin/pytest -q -n 2 --dist worksteal

$(TEST_VENV)/.stamp: pyproject.toml constraints-export.txt
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/pip install $(PIP_FLAGS) -c constraints-export.txt \
		-e '.[export,openvino,cpu,rtx,live,remote,batch,huggingface,dev]'
	touch $@

# A cluster of several nodes on this machine; Ray is large, so `make test` leaves it out.
test-ray: $(TEST_VENV)/.stamp
	$(TEST_VENV)/bin/pip install $(PIP_FLAGS) -c constraints-export.txt -e '.[ray]'
	$(TEST_VENV)/bin/pytest -q tests/batch/test_ray.py

clean:
	rm -rf $(DEMO_VENV) $(TEST_VENV) out build *.egg-info .pytest_cache
