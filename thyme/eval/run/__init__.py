"""One evaluation: its folder, its settings, and the loop that asks whatever is not there yet."""
