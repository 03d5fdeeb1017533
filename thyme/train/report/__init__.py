"""What a run of training shows: its page with curves, the page of its tokens, its table."""
