"""What the ops cost beside their floor and beside their peers: ``robocache bench``.

The floor is the bytes that must move, each once, over the bandwidth of a copy in the same run. The
peers are what a user would write instead. Every result is checked against an oracle before it is
timed. `published` lists the cases, `on_time` and `on_space` say how each op's are made and judged,
`peers` holds the peers by framework, and `run` measures.
"""
