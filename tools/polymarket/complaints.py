"""Advice on the venue's refusals: meaning for the account's owner and the next step.

The phrases are the venue's; the most frequent ones are known from the issue lists of its client libraries.
"""

from __future__ import annotations

_KNOWN = (
    ("deposit wallet flow", "New accounts trade from their deposit wallet. Leave venue.wallet empty to use it."),
    (
        "has to be the address of the api key",
        "The order was signed for another wallet than the API key belongs to. Leave venue.wallet empty, or name a "
        "wallet of this key: edgeclaw wallet status shows them.",
    ),
    (
        "has to be the owner of the api key",
        "The API key is another account's. Start again: it is derived from the key each time.",
    ),
    ("order_version_mismatch", "The venue takes orders of another version than this program signs. Update edgeclaw."),
    ("invalid order version", "The venue takes orders of another version than this program signs. Update edgeclaw."),
    (
        "invalid signature",
        "The wallet and the kind it is signed for do not fit together. Check venue.wallet with edgeclaw wallet status.",
    ),
    (
        "not enough balance / allowance",
        "The wallet holds too little, or the exchange may not take it. See edgeclaw wallet status, then wallet setup.",
    ),
    ("max accuracy", "The amounts are finer than the venue takes: this is a fault of edgeclaw, please report it."),
    ("minimum tick size", "The market's tick changed a moment ago; the next order has the new one."),
    ("lower than the minimum", "The order is smaller than this market takes. Raise trading.max_order."),
    ("closed-only", "The venue lets this account only close positions. Ask the venue why."),
    ("trading restricted in your region", "The venue takes no orders from this place. Trade on paper."),
    ("wallet busy", "The relayer is still at an earlier call of this wallet. Try again in a minute."),
    ("in-flight action", "The relayer is still at an earlier call of this wallet. Try again in a minute."),
    ("post-only mode", "The venue is restarting and takes only orders that rest. It ends by itself."),
    ("cancel-only", "The venue takes no new orders for now. It ends by itself."),
)


def advice_on(refusal: str) -> str:
    """Advice on a refusal in the venue's words; empty for an unknown one."""
    said = refusal.lower()
    return next((told for words, told in _KNOWN if words in said), "")
