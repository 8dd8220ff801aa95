"""Measures that students take: who answers, which page, how votes are counted."""
