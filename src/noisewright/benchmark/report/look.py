"""The look of a report: the style of a run's page and what a benchmark's has besides; the frame of the file."""

from __future__ import annotations

import base64
import hashlib
import html

from noisewright.evaluate.page import PAGE_STYLE, SORTING, escaped

STYLE = """
:root{--edge:rgba(128,128,128,.35);--quiet:rgba(128,128,128,.1)}
body{margin:1.5rem auto 4rem;overflow-wrap:anywhere}
h1{line-height:1.25}h2{margin:2.5rem 0 .5rem;padding-top:.6rem;border-top:1px solid var(--edge);font-size:1.2rem}
h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0;max-width:60rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:1rem 0}
nav a{color:inherit}
.verdict{margin:1rem 0;padding:.6rem 1rem;border-left:4px solid #2271d1;background:var(--quiet);max-width:60rem}
.verdict p{margin:.3rem 0}
.alarm{margin:1rem 0;padding:.6rem 1rem;border-left:4px solid #d9480f;background:var(--quiet);max-width:60rem}
.scroll{max-width:100%;background:linear-gradient(to right,Canvas 40%,transparent),
linear-gradient(to left,Canvas 40%,transparent) 100% 0,
radial-gradient(farthest-side at 0 50%,rgba(128,128,128,.6),transparent),
radial-gradient(farthest-side at 100% 50%,rgba(128,128,128,.6),transparent) 100% 0;
background-repeat:no-repeat;background-size:40px 100%,40px 100%,14px 100%,14px 100%;
background-attachment:local,local,scroll,scroll}
th,td{padding:.25rem .6rem;white-space:nowrap}
thead th{vertical-align:bottom;border-bottom-width:2px}
td.text,th.text{white-space:normal;min-width:min(13rem,36vw);max-width:22rem;overflow-wrap:break-word}
td.text{max-width:44rem;overflow-wrap:anywhere}
tbody th{font-weight:normal}
td.wide{min-width:12rem;width:36%}
tr.reference>*{background:var(--quiet)}
small{font-size:.85rem;opacity:.8;margin-left:.5em}
.mark{display:inline-block;min-width:1.2em;text-align:left;margin-left:.25em}
.interval{display:block}
.bar{display:block;width:100%}
.zero{stroke:currentColor;stroke-opacity:.7;stroke-dasharray:2 2}
.defs{position:absolute}
.plots{display:flex;flex-wrap:wrap;gap:1rem 2rem;margin:.8rem 0 0}
figure{margin:0}
figure.plot{flex:1 1 21rem;max-width:33rem;min-width:0}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,16rem),1fr));gap:1rem}
figcaption{font-weight:600;margin:.2rem 0}
.chart{display:block;width:100%;height:auto;font-family:system-ui,sans-serif}
.chart .grid{stroke:currentColor;stroke-opacity:.14}
.chart .axis{stroke:currentColor;stroke-opacity:.75;fill:none}
.chart .level{stroke:currentColor;stroke-width:1.5;fill:none}
.chart .name{font-weight:600}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.4rem 0 .8rem;padding:0;font-size:.93rem}
.legend li{display:flex;align-items:center;gap:.4rem;min-width:0}
.swatch{flex:none}
.multiples{font-weight:600}
.wall{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1.2rem}
.pair{border:1px solid var(--edge);border-radius:6px;padding:.7rem}
.pair .two{display:grid;grid-template-columns:1fr 1fr;gap:.7rem;margin:.5rem 0}
.pair .two>*{min-width:0}
.pair img,.pair .gone{width:100%;max-width:256px}
.pair .which{margin:0}
.long{max-height:36rem;overflow-y:auto}
.long thead th{position:sticky;top:0;background:Canvas}
img{display:block;max-width:100%;height:auto}
.pair figcaption,.scores{font-size:.88rem;font-weight:normal}
.scores{display:grid;gap:0}
.scores div{display:flex;justify-content:space-between;gap:.5rem;line-height:1.35}
.scores div,.scores span{min-width:0}
.scores span{opacity:.8;overflow-wrap:anywhere}
.scores b{font-variant-numeric:tabular-nums;white-space:nowrap;flex:none}
td{font-variant-numeric:tabular-nums}
table.pictures th,table.pictures td{border:0;vertical-align:top;text-align:left;padding:.3rem .4rem;white-space:normal}
table.pictures tbody th{vertical-align:middle;min-width:5rem;max-width:10rem;font-weight:600}
table.pictures thead th:not(:first-child){text-align:center}
table.pictures img{max-width:none}
table.pictures .scores{width:12rem}
table.pictures .scores span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.gone{display:grid;place-items:center;width:192px;max-width:100%;aspect-ratio:1;background:var(--quiet);
border:1px dashed var(--edge)}
code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:var(--quiet);padding:.6rem .8rem;overflow-x:auto}
details{margin:.6rem 0}summary{cursor:pointer}
@media(max-width:500px){body{padding:0 .8rem}.pair .two{gap:.4rem}th,td{padding:.25rem .45rem}}
@media print{nav{display:none}.scroll{overflow:visible}figure,.pair,tr{break-inside:avoid}}
"""


def page(title: str, body: str) -> str:
    """A whole file of HTML that asks for nothing: its policy allows its own script, styles and data URIs only.

    Args:
        title: any text.
        body: HTML.
    """
    digest = base64.b64encode(hashlib.sha256(SORTING.encode()).digest()).decode()
    allowed = (f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
               "base-uri 'none'; form-action 'none'")  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{html.escape(allowed)}"><meta name="viewport" content="width=device-width">'
        f"<title>{escaped(title)}</title><style>{PAGE_STYLE}{STYLE}</style></head><body>{body}"
        f"<script>{SORTING}</script></body></html>\n"
    )
