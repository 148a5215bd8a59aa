"""The small models of ledits, folders in diffusers' layout beside this file. Installed they are `ledits_scenes`."""
