"""The look of the evaluation report."""

from rad_jax.media import CONTEXT_COLOUR, PREDICTED_COLOUR
from rad_jax.reports.plots import COLOURS

_VARIABLES = "".join(f"--{kind}:{colour};" for kind, colour in COLOURS.items())
_VARIABLES += f"--given:rgb{CONTEXT_COLOUR};--made:rgb{PREDICTED_COLOUR};"

CSS = (
    ":root{color-scheme:light;"
    + _VARIABLES
    + "}"
    + """
*{box-sizing:border-box}
body{margin:0;background:#f4f5f7;color:#23262c;font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 16px 64px}
section,header{background:#fff;border:1px solid #e3e5ea;border-radius:12px;padding:22px 24px;margin:0 0 18px}
header{background:none;border:0;padding:0 4px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.02em;margin:0 0 12px}
h2{font-size:20px;letter-spacing:-.01em;margin:0 0 12px}
h3{font-size:16px;margin:0 0 10px}
p{margin:0 0 12px}
small{color:#6c737f;font-size:.8em}
.facts{display:flex;flex-wrap:wrap;gap:8px;margin:0}
.facts div{background:#fff;border:1px solid #e3e5ea;border-radius:8px;padding:5px 11px}
.facts dt,.provenance dt{color:#6c737f;font-size:12px;line-height:1.4}
.facts dd{margin:0;font-weight:600;font-size:14px;overflow-wrap:anywhere}
.verdict{font-size:19px;line-height:1.45}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:12px}
.card{border-radius:10px;padding:13px 15px;background:#f4f5f7}
.card b{font-size:29px;line-height:1.1;letter-spacing:-.02em;white-space:nowrap;font-variant-numeric:tabular-nums}
.card p{margin:3px 0 0;font-size:14px;line-height:1.35;color:#4a4f58}
.card small{display:block;font-size:12px}
.card.model{background:#eaf1fd}.card.model b{color:var(--model)}
.card.above b{color:var(--ceiling)}.card.below b{color:#a8443d}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-size:13px;font-weight:600;color:#4a4f58;text-align:right;vertical-align:bottom;line-height:1.3}
th i{display:block;font-weight:400;font-style:normal;font-size:12px;color:#8a919c}
th,td{padding:8px 12px;border-bottom:1px solid #eceef1;text-align:right;white-space:nowrap}
th{white-space:normal;min-width:76px}
th:first-child,td:first-child{text-align:left;padding-left:0}
tbody tr:last-child td{border-bottom:0}
tr.model td{font-weight:650}
td .kind{display:inline-block;width:76px;font-size:12px;font-weight:400;color:#6c737f}
td .kind::before{content:"";display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:6px;background:var(--dot)}
td .note{display:block;padding-left:80px;font-size:12px;font-weight:400;color:#8a919c;white-space:normal}
.bar{display:block;height:4px;border-radius:2px;margin:4px 0 0;min-width:96px}
.bar{background:linear-gradient(to right,var(--dot) var(--share),#eceef1 var(--share))}
.caption{font-size:13px;line-height:1.5;color:#6c737f;margin:12px 0 0}
img,video{max-width:100%;display:block}
.curves{width:100%;min-width:680px}
.given,.made{border-bottom:2px solid var(--given)}.made{border-color:var(--made)}
.film{border-top:1px solid #eceef1;padding:18px 0 8px}
.film video{border-radius:6px;margin:0 0 14px}
.strips{display:grid;grid-template-columns:max-content max-content;align-items:center;gap:3px 12px;margin:0 0 12px}
.strips .name{position:sticky;left:0;z-index:1;align-self:stretch;display:flex;flex-direction:column;justify-content:center}
.strips .name{background:#fff;padding-right:8px;font-size:13px;line-height:1.25;width:104px;overflow-wrap:anywhere}
.strips .name small{display:block}
.strips img{max-width:none;width:auto;image-rendering:pixelated}
.strips .context{border-bottom:4px solid var(--given);padding-bottom:3px}
.ticks{display:flex;font-size:11px;color:#8a919c}.ticks span{flex:1;text-align:center}
details{margin:6px 0 0}summary{cursor:pointer;color:#1d5fd1;font-size:14px;margin-bottom:8px}
.reading dt{font-weight:600;font-size:14px}.reading dd{margin:0 0 8px;font-size:14px;color:#4a4f58}
.reading{columns:2 320px;column-gap:32px;margin:16px 0 0}.reading div{break-inside:avoid}
.provenance{display:grid;gap:8px;margin:0}
.provenance dd,pre{margin:0;font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
pre{font-size:12px;background:#f4f5f7;border-radius:8px;padding:14px;overflow-x:auto}
@media (max-width:600px){
main{padding:16px 8px 40px}section{padding:16px 14px;border-radius:10px}h1{font-size:24px}.verdict{font-size:17px}
.cards{grid-template-columns:1fr 1fr}.card b{font-size:23px}.strips .name{width:76px;font-size:12px}
td .note{padding-left:17px}td .kind{width:13px;font-size:0}th,td{padding:8px 8px}th{min-width:60px}
}
"""
)
