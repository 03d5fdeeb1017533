"""Filter public sets to problems that teach: by rules, by what they show, and by how often a model is right."""
