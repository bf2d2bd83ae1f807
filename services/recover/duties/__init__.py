"""One duty a file. Each is a coroutine that works in batches until nothing is left or the budget is spent."""
