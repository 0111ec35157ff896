"""What nodes say of themselves: the calls that they make and serve, and how full their queues are. They export it
with the SDK's `register_metrics`."""

from .panels import NODES, board as make, graph, row, stat

CALLED = '%M,direction="called"'
SERVED = '%M,direction="served"'


def board():
    return make(
        "switchboard-node",
        "Switchboard / Nodes",
        "Which calls fail or are slow, as their callers see them? Which handlers? Whose queues fill up?",
        NODES,
        [
            stat(
                "Calls",
                "Calls that ended, a second, as their callers count them.",
                f"sum(rate(switchboard_node_calls_total{{{CALLED}}}[w]))",
                unit="cps",
                width=4,
                zero="0",
            ),
            stat(
                "Calls that fail",
                "The share of calls that did not end well. Their outcomes are below.",
                f'1 - sum(rate(switchboard_node_calls_total{{{CALLED},outcome="ok"}}[w]))'
                f" / sum(rate(switchboard_node_calls_total{{{CALLED}}}[w]))",
                unit="percentunit",
                warn=0.001,
                bad=0.05,
                width=4,
                zero="idle",
            ),
            stat(
                "Slowest hundredth",
                "p99 of all calls, from call to answer, repetitions included.",
                f"histogram_quantile(0.99, sum by (le) (rate(switchboard_node_latency_seconds_bucket{{{CALLED}}}[w])))",
                unit="s",
                warn=0.1,
                bad=1,
                width=4,
                zero="idle",
            ),
            stat(
                "Fewest routers",
                "How many routers the least connected node has a link to. 0 is a node that is cut off; 1 survives no "
                "router's death.",
                "min(switchboard_node_routers{%N})",
                width=4,
            ),
            stat(
                "Longest handler queue",
                "Messages that wait for their handlers at the node that is most behind.",
                "max(switchboard_node_handler_queue{%N})",
                warn=1000,
                width=4,
            ),
            stat(
                "Fullest outbox",
                "Bytes that wait for a router at the node with the most. Growing: the router holds it up, or is gone.",
                "max(switchboard_node_outbox_bytes{%N})",
                unit="bytes",
                warn=1 << 20,
                width=4,
            ),
            row("What nodes call"),
            graph(
                "Calls, by class and method",
                "Which calls are made, and how often.",
                (f"sum by (class, method) (rate(switchboard_node_calls_total{{{CALLED}}}[w]))", "{{class}} {{method}}"),
                unit="cps",
            ),
            graph(
                "How calls end",
                "no_route, not_sent, refused: it did not run. remote: its handler said no. timeout, outcome_unknown: "
                "nobody knows.",
                (f"sum by (outcome) (rate(switchboard_node_calls_total{{{CALLED}}}[w]))", "{{outcome}}"),
                unit="cps",
            ),
            graph(
                "Slowest hundredth, by class and method",
                "Above its handler's own time, which is below, it waited: for a queue, a router, or a repetition.",
                (
                    "histogram_quantile(0.99, sum by (class, method, le)"
                    f" (rate(switchboard_node_latency_seconds_bucket{{{CALLED}}}[w])))",
                    "{{class}} {{method}}",
                ),
                unit="s",
            ),
            graph(
                "Copies beyond the first",
                "Idempotent calls that were sent again: an instance or a router was lost, or is slow.",
                (
                    f"sum by (class, method) (rate(switchboard_node_retries_total{{{CALLED}}}[w]))",
                    "{{class}} {{method}}",
                ),
                unit="cps",
            ),
            graph(
                "Calls under way",
                "Growing: who is called does not keep up.",
                (f"sum by (class, method) (switchboard_node_in_flight{{{CALLED}}})", "{{class}} {{method}}"),
                ("sum(switchboard_node_open_calls{%N})", "all that wait for an answer"),
            ),
            graph(
                "Messages sent, by outcome",
                "One way. not_sent: the node had no router, or its outbox was full.",
                (f"sum by (outcome) (rate(switchboard_node_messages_total{{{CALLED}}}[w]))", "{{outcome}}"),
                unit="cps",
            ),
            row("What nodes serve"),
            graph(
                "Handled, by method",
                "Calls and one-way messages together, by the class of who sent them.",
                (
                    f"sum by (class, method) (rate(switchboard_node_latency_seconds_count{{{SERVED}}}[w]))",
                    "{{method}} for {{class}}",
                ),
                unit="cps",
            ),
            graph(
                "How handlers end",
                "remote: the handler said no. panic: a bug, whose backtrace the node printed. busy, expired: it was too "
                "late. duplicate: a copy that was answered without running again.",
                (
                    f"sum by (outcome) (rate(switchboard_node_calls_total{{{SERVED}}}[w]))",
                    "calls {{outcome}}",
                ),
                (
                    f"sum by (outcome) (rate(switchboard_node_messages_total{{{SERVED}}}[w]))",
                    "messages {{outcome}}",
                ),
                unit="cps",
            ),
            graph(
                "Mean time of handlers",
                "Who is slow: the handler itself, without the way to it.",
                (
                    f"sum by (method) (rate(switchboard_node_latency_seconds_sum{{{SERVED}}}[w]))"
                    f" / sum by (method) (rate(switchboard_node_latency_seconds_count{{{SERVED}}}[w]))",
                    "{{method}}",
                ),
                unit="s",
            ),
            row("The node itself"),
            graph(
                "Messages that wait for handlers, by node",
                "Growing: handlers are too slow, or block the runtime.",
                ("switchboard_node_handler_queue{%N}", "{{instance}}"),
            ),
            graph(
                "Bytes that wait for routers, by node",
                "Growing: a router does not read this node, since somebody whom it sends to is slow.",
                ("switchboard_node_outbox_bytes{%N}", "{{instance}}"),
                unit="bytes",
            ),
            graph(
                "Links to routers, by node",
                "Fewer than there are routers: the node has lost one, and survives no other loss of its kind.",
                ("switchboard_node_routers{%N}", "{{instance}}"),
            ),
            graph(
                "Idempotent calls that are remembered, by node",
                "What the window against running twice holds. At its limit old answers are forgotten early.",
                ("switchboard_node_window_calls{%N}", "{{instance}}"),
                width=12,
            ),
            graph(
                "Bytes of their answers, by node",
                "What that costs in memory.",
                ("switchboard_node_window_bytes{%N}", "{{instance}}"),
                unit="bytes",
                width=12,
            ),
        ],
    )
