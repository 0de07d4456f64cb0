"""The page of a run: HTML with its plots inside, which needs no network. Only `report` and `history --html` import this."""
