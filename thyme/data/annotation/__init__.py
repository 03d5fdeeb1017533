"""Questions that people ask about large images: what one is, which rules it keeps, how it is written and read."""
