"""How the embedded base learns to see: views, questions about them, the tower, the language model."""
