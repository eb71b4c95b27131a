"""The course: running the lessons, and the book made of them."""
