"""The course: profiles, the runner of the lessons, seeds, the README's tables, the book."""
