"""A bench's result for people: tables, a page, a timeline, a picture."""
