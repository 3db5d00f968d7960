"""Searches: sizing that needs training. `mixdim search` runs one; docs/search.md describes them.

FOLDER/sizing.json       the plan that was found, for `mixdim train --sizing`
FOLDER/search.json       what was asked, what it cost, what every width is worth, how good it is
FOLDER/stages/NAME/      run folder of a training that the search needed
FOLDER/stages/NAME.json  what a finished stage cost and found
FOLDER/plans/NAME.json   the plan that a stage trains
"""
