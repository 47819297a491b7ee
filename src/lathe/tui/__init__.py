"""The interactive face: lines on an ordinary terminal, with a small live region below them."""
