"""Parts of motion.py: accuracy, and speed."""
