"""What a recipe of one's own is made of, under a name that stays wherever nnx keeps it."""

from toolchain.recipes.recipe import Augmentation, Recipe, adam, sgd

__all__ = ["Augmentation", "Recipe", "adam", "sgd"]
