"""What comes in, of which class and mode, where it ends, what is lost, and how long it takes."""

from .panels import CLASSES, ROUTERS, board as make, graph, heat, row, table


def board():
    return make(
        "switchboard-traffic",
        "Switchboard / Traffic by class",
        "How much goes through, of which class, where does it end, and what is lost, and why?",
        ROUTERS + CLASSES,
        [
            row("What comes in"),
            graph(
                "Frames, by class",
                "How much nodes send to each class. Compare with last week before you blame the router.",
                ("sum by (class) (rate(switchboard_frames_received_total{%C}[w]))", "{{class}}"),
                unit="cps",
                stack=True,
            ),
            graph(
                "Bytes, by class",
                "The same in bytes, headers included. Against the frames it tells whose messages have grown.",
                ("sum by (class) (rate(switchboard_received_bytes_total{%C}[w]))", "{{class}}"),
                unit="Bps",
                stack=True,
            ),
            graph(
                "Frames, by mode",
                "How they are addressed. Much broadcast costs each target: look at what ends below.",
                ("sum by (mode) (rate(switchboard_frames_received_total{%C}[w]))", "{{mode}}"),
                unit="cps",
                stack=True,
            ),
            row("Where it ends"),
            graph(
                "Frames, by outcome",
                "Every frame, and every copy of a broadcast, ends in one outcome. All but delivered is lost.",
                ("sum by (outcome) (rate(switchboard_frames_total{%C}[w]))", "{{outcome}}"),
                unit="cps",
                stack=True,
            ),
            graph(
                "Bytes, by outcome",
                "The same in bytes: what the links carry, and what went nowhere.",
                ("sum by (outcome) (rate(switchboard_ended_bytes_total{%C}[w]))", "{{outcome}}"),
                unit="Bps",
                stack=True,
            ),
            graph(
                "Share delivered, by class",
                "Of all that ended, what reached its target. A class below 1 loses frames: why is in the next row.",
                (
                    'sum by (class) (rate(switchboard_frames_total{%C,outcome="delivered"}[w]))'
                    " / sum by (class) (rate(switchboard_frames_total{%C}[w]))",
                    "{{class}}",
                ),
                unit="percentunit",
                most=1,
            ),
            row("What is lost"),
            graph(
                "Lost, by class and reason",
                "no_instance, empty_slot: start the missing instance. full, evicted: its consumers are too slow. "
                "not_found, target_lost: who was called has left. expired: nobody came within park_ms.",
                ("sum by (class, reason) (rate(switchboard_dropped_frames_total{%C}[w])) > 0", "{{class}} {{reason}}"),
                ("sum(rate(switchboard_dropped_frames_total{%C}[w]))", "all"),
                unit="cps",
                width=12,
            ),
            table(
                "Lost in the time shown",
                "The same in numbers, the most first.",
                "topk(20, sum by (class, reason) (increase(switchboard_dropped_frames_total{%C}[$__range])) > 0)",
                "frames",
                decimals=0,
            ),
            row("How long it takes, and at what cost"),
            heat(
                "Time from read to write",
                "How long one batch in 128 took through the router. A second band above the first is a full mailbox, "
                "or a thread that is busy.",
                "sum by (le) (increase(switchboard_read_to_write_seconds_bucket{%R}[w]))",
            ),
            graph(
                "Quantiles of it, by router",
                "A router that is slower than the others has the slow node, or a neighbour that takes its CPU.",
                *(
                    (
                        f"histogram_quantile({q}, sum by (instance, le)"
                        " (rate(switchboard_read_to_write_seconds_bucket{%R}[w])))",
                        f"{{{{instance}}}} p{name}",
                    )
                    for q, name in ((0.5, "50"), (0.99, "99"), (0.999, "99.9"))
                ),
                unit="s",
                width=12,
            ),
            graph(
                "Mean of it, by router",
                "The mean beside the quantiles: far above p50, few batches take very long.",
                (
                    "sum by (instance) (rate(switchboard_read_to_write_seconds_sum{%R}[w]))"
                    " / sum by (instance) (rate(switchboard_read_to_write_seconds_count{%R}[w]))",
                    "{{instance}}",
                ),
                unit="s",
            ),
            graph(
                "Reads and writes",
                "Calls to the system. Fewer than frames is good: they travel in batches.",
                ("sum by (instance) (rate(switchboard_reads_total{%R}[w]))", "{{instance}} reads"),
                ("sum by (instance) (rate(switchboard_writes_total{%R}[w]))", "{{instance}} writes"),
                unit="cps",
            ),
            graph(
                "Frames for each read",
                "How well frames are batched. It grows with load; 1 under high load means senders that flush each frame.",
                (
                    "sum by (instance) (rate(switchboard_frames_received_total{%R}[w]))"
                    " / sum by (instance) (rate(switchboard_reads_total{%R}[w]))",
                    "{{instance}}",
                ),
            ),
        ],
    )
