"""Writes everything that is made from declarations anew: `python -m infra.observability`.

Rules of the objectives and the scrape configuration of containers, Grafana's dashboards, the tables of docs/metrics.md
and docs/observability.md.
"""

from __future__ import annotations

from infra.observability.generated import files


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"rendered {path.name}")


if __name__ == "__main__":
    main()
