"""Which class has a master and since when, what waits for an instance, and what operators did."""

from .panels import CLASSES, ROUTERS, board as make, graph, row, states, table


def board():
    return make(
        "switchboard-mastership",
        "Switchboard / Mastership and parking",
        "Which class has no master? Does it move too often? Is anything parked, and does it grow?",
        ROUTERS + CLASSES,
        [
            row("Masters"),
            states(
                "Masters, by class and router",
                "A red stretch: no instance of the class was live at that router. Calls failed, or waited if it parks.",
                'switchboard_masters{%C,class!="http-calls"}',
                "{{class}} at {{instance}}",
                [(1, "has one", "green"), (0, "none", "red")],
            ),
            table(
                "Master since",
                "How old the present epoch is. Young: the master moved. 0 at one router alone: it does not see the class. "
                "The number itself is what fences a master's writes.",
                "time() - switchboard_master_epoch{%C} / 1e6",
                "in office for",
                unit="s",
                hide=("job",),
                decimals=0,
            ),
            graph(
                "Changes of the master, by class",
                "A restart of the master is one or two. Without end: its process crashes, or is paused for longer than "
                "its heartbeats.",
                ("sum by (class) (increase(switchboard_master_changes_total{%C}[w]))", "{{class}}"),
            ),
            graph(
                "Instances that come or go, by class",
                "How often their number changed. A deploy is a short burst; what goes on and on is flapping.",
                ('sum by (class) (changes(switchboard_instances{%C,state="live"}[w]))', "{{class}}"),
            ),
            graph(
                "Live instances, by class",
                "Who could be master. One alone has no backup.",
                ('max by (class) (switchboard_instances{%C,state="live"})', "{{class}}"),
            ),
            row("Parking"),
            graph(
                "Frames that wait for an instance",
                "Growing: nobody takes them. Start an instance before park_ms is over.",
                ("sum by (class) (switchboard_parked_frames{%C})", "{{class}}"),
                stack=True,
                width=6,
            ),
            graph(
                "Bytes that wait",
                "Beyond the class's park_bytes the rest bounces.",
                ("sum by (class) (switchboard_parked_bytes{%C})", "{{class}}"),
                unit="bytes",
                stack=True,
                width=6,
            ),
            graph(
                "Who begins to wait, and who is taken",
                "Taken later than begun is a restart that cost nothing but time; begun and not taken will expire.",
                ("sum by (class) (rate(switchboard_parked_total{%C}[w]))", "{{class}} begins"),
                ("sum by (class) (rate(switchboard_released_total{%C}[w]))", "{{class}} is taken"),
                unit="cps",
                width=6,
            ),
            graph(
                "Waited in vain",
                "Nobody came within park_ms: callers were told.",
                (
                    'sum by (class) (rate(switchboard_dropped_frames_total{%C,reason="expired"}[w]))',
                    "{{class}}",
                ),
                unit="cps",
                width=6,
            ),
            row("What operators did"),
            states(
                "Routers that drain",
                "A router that is told to leave sends its nodes to the others, and goes when they have left.",
                "switchboard_draining{%R}",
                "{{instance}}",
                [(0, "serves", "green"), (1, "drains", "orange")],
                width=8,
                height=6,
            ),
            states(
                "The last reload",
                "Refused: the file has a mistake, and the configuration before is in force. router --check names it.",
                "switchboard_last_reload_successful{%R}",
                "{{instance}}",
                [(1, "good", "green"), (0, "refused", "red")],
                width=8,
                height=6,
            ),
            graph(
                "Reloads",
                "When the configuration was read again.",
                ("sum by (outcome) (increase(switchboard_reloads_total{%R}[w]))", "{{outcome}}"),
                height=6,
            ),
        ],
    )
