"""The dashboard's results, from a document alone: the page's own script runs in node over a false document object. Columns, the variant
that the validation part chooses, what is missing, undefined, disturbed, of other layers. Skipped without node."""
import json
import os
import shutil
import subprocess
import sys

NODE = shutil.which("node") or shutil.which("nodejs")
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "web", "index.html")

# A document object that can only be written to, and printed: a table row is a line with tabs.
FALSE_DOCUMENT = r"""
const fs = require("fs");
class Node {
  constructor(name) { this.name = name; this.children = []; this.textContent = ""; }
  append(...c) { this.children.push(...c); }
  replaceChildren(...c) { this.children = c; }
  setAttribute() {}
  addEventListener() {}
  print() {
    const inner = this.children.map(c => c instanceof Node ? c.print() : String(c));
    if (this.name === "tr") return inner.join("\t") + "\n";
    return inner.join("") + (["p", "summary", "li"].includes(this.name) ? "\n" : "") + this.textContent;
  }
}
const ids = {};
global.Node = Node;
global.document = {createElement: n => new Node(n), createElementNS: (u, n) => new Node(n), getElementById: id => ids[id] || (ids[id] = new Node(id))};
global.location = {search: "?once", hash: ""};
const [script, report] = JSON.parse(fs.readFileSync(0, "utf8"));
(0, eval)(script + "\nglobalThis.showReport = showReport;");
showReport(report);
console.log(ids.report.print());
"""


def shown(report):
    with open(PAGE, encoding="utf-8") as f:
        script = f.read().split("<script>")[1].split("</script>")[0]
    script = script.rstrip().removesuffix("refresh();")
    done = subprocess.run([NODE, "-e", FALSE_DOCUMENT], input=json.dumps([script, report]), capture_output=True, text=True, timeout=100)
    if done.returncode:
        raise SystemExit("node: " + done.stderr)
    return done.stdout


def check(text, *parts):
    for p in parts:
        if p not in text:
            raise SystemExit(f"the results do not show {p!r}:\n{text}")


def net(seed, rounds, norm, kept, test, validation, **more):
    return {"net": "cnn", "config": "a", "widths_full": [8, 4], "seed": seed, "distilled": False, "rounds": rounds, "round": rounds,
            "norm": norm, "keep": kept, "kept": kept, "unit": "structure", "schedule": "geometric", "params": int(1000 * kept),
            "auroc_float": test, "auroc_float_validation": validation, "bytes_float": 4000 * kept, **more}


def many_sizes():
    text = shown({"artifacts": [net(0, 1, "L1", 0.99 - 0.01 * i, 0.9, 0.9) for i in range(90)]})
    check(text, *[f"{99 - i}.00 %" for i in range(90)])


def choice_and_marks():
    time = {"glibc": {"p50_us": 11.0, "process_p50_us": [10.0, 11.0, 14.0], "allocator": "glibc", "disturbed_by": "the other cores were busy for 90 %"}}
    artifacts = [net(s, 0, None, 1, 0.9, 0.9, auroc_undefined=["HYP"], latency_float=time) for s in (0, 1)]
    artifacts += [net(s, 1, "L1", 0.5, 0.8, 0.85) for s in (0, 1)] + [net(s, 5, "L2", 0.5, 0.85, 0.8) for s in (0, 1)]
    artifacts += [net(0, 2, "L1", 0.7, 0.7, 0.7, round=1)]
    artifacts += [{**net(0, 0, None, 1, 0.6, 0.6), "config": "b", "widths_full": [4, 8]}]
    missing = [{**net(0, 1, "L1", 0.125, None, None), "kept": None, "seeds": [0, 1], "states": {"blocked": 2}}]
    text = shown({"artifacts": artifacts, "missing": missing, "failed": [{"job": "j9", "reason": "loss is not finite"}]})
    check(text, "cnn [8, 4]\t100 %\t50.00 %\tkeep 0.125", "F\t0.9000(000) \t0.8000(000) 1/L1\t-", "µs F\t11.0 [10.0-14.0]~\t-\t-",
          "n = 2 seeds; 2 of 9 measurements are missing (-): 2 blocked", "best validation AUROC", "leaves out HYP", "70.00 % 2/L1 after 1",
          "50.00 % 5/L2\t2", "cnn [4, 8]\t100 %\nF\t0.6000", "j9: loss is not finite")


def no_validation():
    artifacts = [net(0, r, "L1", 0.5, 0.7 + r / 100, None) for r in (1, 5)]
    check(shown({"artifacts": artifacts}), "F\t0.7100 1/L1?", "selection: none (no validation AUROC)", "50.00 % 5/L1\t1\t-\t-\t0.7500")


def main():
    if not NODE:
        print("skipped: no node on this machine")
        return 77
    check(shown({"artifacts": []}), "nothing measured yet")
    many_sizes()
    choice_and_marks()
    no_validation()
    print("the page shows every size and variant, what validation chose, what is missing and what was disturbed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
