"""What is measured: speed, accuracy, and which precision to take; and the pages that show it.

`report` and `datasets` below, then `evaluate`, `bench` and `optimize`, each on the ones before.
"""
