"""What people say: a blind page for votes between two models, and how far the metrics agree with them."""

from harness.runs.read import read_votes
from harness.vote.agreement import agreement, write_agreement
from harness.vote.ballots import Ballot, ballots_of
from harness.vote.server import make_server, serve_votes

__all__ = ["Ballot", "agreement", "ballots_of", "make_server", "read_votes", "serve_votes", "write_agreement"]
