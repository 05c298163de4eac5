"""Search for translations, over anything that can encode, start and step."""
