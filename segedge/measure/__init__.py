"""What is measured: speed, accuracy, and which precision to take; and the pages that show it."""
