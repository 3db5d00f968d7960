"""The two streaming passes of ``prepare``: count values, then map them to ids and write."""
