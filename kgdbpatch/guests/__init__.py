"""Guests: recipes in TOML, bundled or not, and what builds the bundled two."""

from kgdbpatch.guests.recipe import Boot, Recipe, recipes

__all__ = ["Boot", "Recipe", "recipes"]
