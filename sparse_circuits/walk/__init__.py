"""The walk, verb by verb: each function takes the verb's config, does its work in a run folder, and says what it found.

Called by the command line; from Python the rooms themselves are as short to call.
"""
