"""The CUDA twin: preprocessing, tail and overlay as CUDA kernels compiled at run time."""
