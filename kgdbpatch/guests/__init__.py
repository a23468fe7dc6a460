"""Guests: recipes in TOML, bundled or not, and what builds the bundled two."""

from kgdbpatch.guests.known import recipes
from kgdbpatch.guests.recipe import Boot, Recipe

__all__ = ["Boot", "Recipe", "recipes"]
