"""The loop level: how a group becomes loops.

schedule  merging of loops, the lane, cuts at guards
ir        statements and kernels
lower     row programs, column programs, maps
scan      running reductions
scatter   updates at computed places
text      kernels for people
"""
