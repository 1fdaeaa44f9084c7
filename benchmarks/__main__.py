"""Run every benchmark; each prints JSON lines of what it measured, with ratios taken side by side in one run."""

from __future__ import annotations

from benchmarks import (
    analysis,
    book_feed,
    cost,
    history,
    hot_path,
    ingest,
    loop_lag,
    many_markets,
    order_latency,
    replay,
    signing,
    together,
    token_count,
    tree_search,
    verdict,
    verdict_openvino,
)


def main() -> None:
    """In order of how long they take."""
    fast = (signing, ingest, order_latency, book_feed, replay, hot_path, loop_lag, token_count, cost, analysis)
    for bench in (*fast, verdict, verdict_openvino, many_markets, history, tree_search, together):
        bench.main()


if __name__ == "__main__":
    main()
