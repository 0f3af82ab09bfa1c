"""`python -m bench`: prints a table and writes bench/results/local/<name>.json."""

from __future__ import annotations

import json
from pathlib import Path

from bench import machines, relay, tokens

RESULTS = Path(__file__).parent / "results" / "local"


def main() -> None:
    """Two minutes: the relay against nginx, then the embedded model through the gateway against its worker."""
    machine = machines.described()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rows = relay.run()
    print(f"\n{'scenario':<40}{'nginx rps':>11}{'ours rps':>10}{'ratio':>7}{'nginx us':>10}{'ours us':>9}{'x cpu':>7}")
    for row in rows:
        print(
            f"{row['scenario']:<40}{row['nginx_rps']:>11.0f}{row['modelport_rps']:>10.0f}{row['rps_ratio']:>7.3f}"
            f"{row['nginx_cpu_us']:>10.1f}{row['modelport_cpu_us']:>9.1f}{row['cpu_ratio']:>7.2f}"
        )
    print(f"memory of the gateway (PSS): {rows[-1]['modelport_pss_mb']:.0f} MB")
    speed = tokens.run()
    if speed is None:
        print("\ntokens/s: not measured; `modelport models pull default` gets the weights")
    else:
        print(
            f"\ntokens/s of {speed['model']}: worker alone {speed['worker_tokens_per_second']:.1f}, "
            f"through the gateway {speed['gateway_tokens_per_second']:.1f} (ratio {speed['ratio']:.3f}); first token "
            f"{speed['worker_first_token_ms']:.0f} ms and {speed['gateway_first_token_ms']:.0f} ms"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "relay": rows, "tokens": speed}
    (RESULTS / "bench.json").write_text(json.dumps(report, indent=2) + "\n")


main()
