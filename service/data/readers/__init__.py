"""Raw logs of every supported form, behind one seam: `base.Dataset`. One source a file."""
