"""`segedge run`: its options, what they open, and what is said at the end."""
