"""The settings of a run: recipe, overrides, Lightning's arguments."""
