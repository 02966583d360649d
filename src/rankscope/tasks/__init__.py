"""What a task is, and how its rows become samples. Loads nothing by itself."""
