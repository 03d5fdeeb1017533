"""People ask questions about large images, answer each other's without seeing the answer, and accept them."""
