"""Models of other libraries' in this package's tables; see README.md."""
