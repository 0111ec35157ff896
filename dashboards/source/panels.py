"""What boards are made of: panels, variables, and the board around them, as Grafana 11 reads them (schema version 39).

Queries are written short: %R selects the routers that are chosen at the top of the board, %C their classes too, %N the
nodes, %M the methods that these call or serve, and [w] is the window of a rate.
"""

SHORT = {
    "%R": 'job=~"$job",instance=~"$instance"',
    "%C": 'job=~"$job",instance=~"$instance",class=~"$class"',
    "%N": 'job=~"$job",instance=~"$instance"',
    "%M": 'job=~"$job",instance=~"$instance",class=~"$class",method=~"$method"',
    "[w]": "[$__rate_interval]",
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


def stat(title, description, expr, unit="short", warn=None, bad=None, width=3, height=4, decimals=None, zero=None):
    """One number. It turns orange at `warn`, and red at `bad`; `zero` says what nothing at all means."""
    steps = [{"color": GREEN, "value": None}]
    steps += [{"color": color, "value": at} for color, at in ((ORANGE, warn), (RED, bad)) if at is not None]
    if len(steps) == 1:
        steps[0]["color"] = BLUE
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    if zero is not None:
        defaults["noValue"] = zero
    return {
        **_panel("stat", title, description, [(expr, "")], width, height),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "area",
            "textMode": "value",
            "justifyMode": "center",
            "orientation": "auto",
        },
    }


def graph(title, description, *queries, unit="short", width=8, height=8, stack=False, least=0, most=None, mark=None):
    """Lines over time, one (expression, legend) for each query. `mark` draws a line where it gets bad."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if stack else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
    }
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}, "custom": custom}
    for key, value in (("min", least), ("max", most)):
        if value is not None:
            defaults[key] = value
    if mark is not None:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        steps = [{"color": GREEN, "value": None}, {"color": RED, "value": mark}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        **_panel("timeseries", title, description, queries, width, height),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def states(title, description, expr, legend, texts, width=12, height=8):
    """What was when: a bar for each series, coloured by its value. `texts` has (value, text, color)."""
    mappings = {
        str(value): {"text": text, "color": color, "index": index} for index, (value, text, color) in enumerate(texts)
    }
    defaults = {
        "mappings": [{"type": "value", "options": mappings}],
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": BLUE, "value": None}]},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    return {
        **_panel("state-timeline", title, description, [(expr, legend)], width, height),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "mergeValues": True,
            "showValue": "auto",
            "alignValue": "left",
            "rowHeight": 0.8,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
    }


def heat(title, description, expr, unit="s", width=12, height=8):
    """How often a duration was how long, over time, from the buckets of a histogram."""
    queries = [(expr, "{{le}}")]
    panel = _panel("heatmap", title, description, queries, width, height)
    panel["targets"][0]["format"] = "heatmap"
    return {
        **panel,
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "steps": 64,
                "exponent": 0.5,
                "fill": "dark-orange",
                "reverse": False,
            },
            "yAxis": {"unit": unit, "axisPlacement": "left"},
            "tooltip": {"mode": "single"},
            "legend": {"show": True},
        },
    }


def table(title, description, expr, value, unit="short", hide=(), width=12, height=8, decimals=None):
    """What is now: a row for each series, with its labels and one number, whose column is called `value`."""
    panel = _panel("table", title, description, [(expr, "")], width, height)
    panel["targets"][0].update({"format": "table", "instant": True, "range": False})
    excluded = {name: True for name in ("Time", "__name__", *hide)}
    organize = {"excludeByName": excluded, "renameByName": {"Value": value}, "indexByName": {}}
    defaults = {"unit": unit, "custom": {"align": "left"}}
    if decimals is not None:
        defaults["decimals"] = decimals
    return {
        **panel,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": value, "desc": True}],
        },
        "transformations": [{"id": "organize", "options": organize}],
    }


def row(title):
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24}}


def board(uid, title, description, variables, panels):
    """A board. Its panels are laid out from left to right, and in lines."""
    x = y = line = 0
    for number, panel in enumerate(panels, start=1):
        place = panel["gridPos"]
        if x + place["w"] > 24:
            x, y, line = 0, y + line, 0
        panel["id"] = number
        panel["gridPos"] = {"h": place["h"], "w": place["w"], "x": x, "y": y}
        x, line = x + place["w"], max(line, place["h"])
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["switchboard"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "links": [
            {
                "title": "Switchboard",
                "type": "dashboards",
                "icon": "external link",
                "tooltip": "",
                "url": "",
                "tags": ["switchboard"],
                "asDropdown": False,
                "targetBlank": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *variables]},
        "panels": [{key: panel[key] for key in sorted(panel, key=_order)} for panel in panels],
    }


def variable(name, label, metric, selector=None, every=None):
    """A choice among the values of a label, of any number of them. `every` is the pattern for all."""
    query = f"label_values({metric}{{{selector}}}, {name})" if selector else f"label_values({metric}, {name})"
    made = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }
    if every is not None:
        made["allValue"] = every
    return made


ROUTERS = [
    variable("job", "Job", "switchboard_build_info"),
    variable("instance", "Router", "switchboard_build_info", 'job=~"$job"', ".*"),
]
CLASSES = [variable("class", "Class", "switchboard_instances", SHORT["%R"], ".*")]
NODES = [
    variable("job", "Job", "switchboard_node_routers"),
    variable("instance", "Node", "switchboard_node_routers", 'job=~"$job"', ".*"),
    variable("class", "Class", "switchboard_node_in_flight", SHORT["%N"], ".*"),
    variable("method", "Method", "switchboard_node_in_flight", SHORT["%N"] + ',class=~"$class"', ".*"),
]


def _datasource():
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
    }


def _panel(kind, title, description, queries, width, height):
    def target(letter, expr, legend):
        for short, long in SHORT.items():
            expr = expr.replace(short, long)
        made = {"refId": letter, "datasource": SOURCE, "expr": expr, "range": True, "instant": False}
        return {**made, "legendFormat": legend} if legend else made

    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"h": height, "w": width},
        "targets": [target("ABCDEFGH"[n], expr, legend) for n, (expr, legend) in enumerate(queries)],
    }


def _order(key):
    """First what a reader looks for."""
    first = ["id", "type", "title", "description", "gridPos", "collapsed", "panels", "datasource", "targets"]
    return (first.index(key), "") if key in first else (len(first), key)
