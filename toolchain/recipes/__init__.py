"""The recipes that come with nnx. Copy one, change it, and run it: ``nnx run my_recipe.py:recipe``."""
