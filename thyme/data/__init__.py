"""Records of other people's making: reading and writing them as this package's own."""
