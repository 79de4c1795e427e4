"""How the inference log names the columns of requests, apart from its own: who reads values never takes a digest for
one.
"""

INPUT, DIGEST = "input:", "digest:"
