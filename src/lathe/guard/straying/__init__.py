"""Ways in which an agent strays from what it was asked, and how each of them shows in what it does."""
