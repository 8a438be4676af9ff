"""Studies of earlier versions: how their files are read today.

What was renamed or moved in the files of a study stands here and nowhere else, apart from the names of scores, which
`metrics.scores.current_names` knows.
"""
