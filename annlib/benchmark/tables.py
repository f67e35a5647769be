"""The tables of the benchmark, and the lines below them that say what follows."""

from collections.abc import Mapping

from rich.table import Table

from annlib.benchmark.cases import CASES
from annlib.benchmark.scaling import (
    MEMORY_PROCESSES,
    MODELS,
    PROJECTED_ROWS,
    ROWS,
    Scaling,
    Setting,
    gradient_bytes,
    strong,
    weak,
)
from annlib.benchmark.sides import SIDES
from annlib.benchmark.timing import SAME_LOSS, CaseTiming, SideTiming

PROJECTED = (8, 64, 512)


def case_table(timings: Mapping[str, CaseTiming]) -> Table:
    """Returns a row for each side of each case: time, how many times faster than Keras, start-up, memory, loss."""
    table = Table("", "ms/epoch", "range", "times fit", "import s", "compile s", "start s", "MB", "loss")
    table.columns[0].no_wrap = True
    for name, case in timings.items():
        table.add_row(f"[bold]{CASES[name].title}")
        for side, timing in case.sides.items():
            table.add_row(SIDES[side].label, *_time_cells(timing), f"{case.speed(side):.3g}", *_start_cells(timing))
        for side, reason in case.left_out.items():
            table.add_row(f"{SIDES[side].label}: {reason}")
        table.add_section()
    return table


def _time_cells(timing: SideTiming) -> list[str]:
    ends = [end / timing.median_s - 1 for end in (min(timing.epoch_s), max(timing.epoch_s))]
    return [milliseconds(timing.median_s), " ".join(f"{end:+.0%}" for end in ends)]


def _start_cells(timing: SideTiming) -> list[str]:
    start = timing.start
    if start.loss is None:
        return []
    seconds = [f"{start.import_s:.1f}", f"{timing.compile_s:.2f}", f"{timing.first_step_s:.1f}"]
    return [*seconds, f"{timing.peak_memory_bytes / 1e6:,.0f}", f"{start.loss:.4f}"]


def milliseconds(seconds: float) -> str:
    """Returns a time in ms with three digits or more."""
    value = 1e3 * seconds
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def case_notes(timings: Mapping[str, CaseTiming]) -> list[str]:
    """Returns what the table does not say itself."""
    lines = [
        "ms/epoch: median of the rounds, and their range. Start: import, model and data, compilation, until the "
        "first step. Loss: mean of the last epoch of the first call, from the same weights."
    ]
    for name, case in timings.items():
        lines.append(
            f"{name}: the matrix products alone take {case.gemm_share:.2f} of annlib's epoch; metrics, validation, "
            f"callbacks and progress add {case.extras_share:.0%} to it."
        )
        others = ", ".join(SIDES[side].label for side in case.other_losses())
        if others:
            lines.append(
                f"{name}: {others} does not train the same: its loss differs by more than {SAME_LOSS:.0%} from Keras'."
            )
    return lines


def scaling_table(scaling: Scaling) -> Table:
    """Returns a row for each setting: annlib, the bare loop, and what the model of scaling predicts."""
    title = f"Several workers, pinned to {scaling.num_cores} cores, MultiWorkerMirroredStrategy; ms a step"
    columns = (
        "model",
        "rows x workers",
        "annlib",
        "bare loop",
        "annlib/bare",
        "efficiency, bare",
        "predicted",
        "off by",
    )
    table = Table(*columns, title=title)
    for model in MODELS:
        for kind, settings in (("weak", weak(model)), ("strong", strong(model))):
            table.add_row(f"[bold]{model}, {kind}")
            for setting in settings:
                table.add_row(*_step_row(scaling, kind, setting))
        table.add_section()
    return table


def _step_row(scaling: Scaling, kind: str, setting: Setting) -> list[str]:
    annlib_s, bare_s = (scaling.step_s(side, setting) for side in ("annlib", "bare"))
    predicted_s = scaling.predicted_s("annlib", setting)
    shares = [_efficiency(scaling, kind, side, setting) for side in ("annlib", "bare")]
    return [
        "",
        f"{setting.rows / setting.num_workers:g} x {setting.num_workers}",
        f"{1e3 * annlib_s:.2f}",
        f"{1e3 * bare_s:.2f}",
        f"{annlib_s / bare_s:.2f}",
        f"{shares[0]:.0%}, {shares[1]:.0%}",
        f"{1e3 * predicted_s:.2f}",
        f"{predicted_s / annlib_s - 1:+.0%}",
    ]


def _efficiency(scaling: Scaling, kind: str, side: str, setting: Setting) -> float:
    """Returns the work done in a second and by a worker, as a share of that of one worker."""
    alone_s = scaling.step_s(side, Setting(setting.model, 1, ROWS))
    share = alone_s / scaling.step_s(side, setting)
    return share if kind == "weak" else share / setting.num_workers


def scaling_notes(scaling: Scaling) -> list[str]:
    """Returns latency, bandwidth, steps against bare all-reduces, and memory."""
    lines = [
        "Predicted: computing as fitted to one worker's steps, as many times as workers share a core, then rings as "
        "fitted to 2 workers' all-reduces, 2 (p - 1) alpha + 2 (p - 1) / p * bytes / B; half of it to gather factors."
    ]
    for count in sorted({count for _, count, _ in scaling.all_reduces}):
        link = scaling.link("annlib", count)
        bandwidth = f"{1e-9 / link.s_per_byte:.2g} GB/s" if link.s_per_byte else "unlimited"
        lines.append(f"{count} workers: alpha {1e6 * link.alpha_s:.0f} µs, B {bandwidth} here, fitted to all-reduces.")
        for model in MODELS:
            setting = Setting(model, count, ROWS)
            step_s = scaling.step_s("annlib", setting)
            own_s, plain_s = (scaling.all_reduce_s(side, count, gradient_bytes(model)) for side in ("annlib", "bare"))
            predicted_s = scaling.predicted_s("annlib", setting, link_of=count)
            lines.append(
                f"  {model}, {ROWS} rows: a step of annlib takes {step_s / plain_s:.2f} times the bare all-reduce of "
                f"its gradient's {gradient_bytes(model):,} bytes under TensorFlow's strategy as it comes "
                f"({1e3 * plain_s:.2f} ms), {step_s / own_s:.2f} times that under annlib's ({1e3 * own_s:.2f} ms); "
                f"predicted with this alpha and B: {1e3 * predicted_s:.2f} ms ({predicted_s / step_s - 1:+.0%})."
            )
        if count > scaling.num_cores:
            lines.append(
                f"  {count} workers share {scaling.num_cores} cores: computing takes turns, and so do the two ends of "
                "each message."
            )
    annlib, keras = (scaling.peak_memory_bytes[side] / 1e6 for side in ("annlib", "keras"))
    lines.append(
        f"Fashion-MNIST, memory of {MEMORY_PROCESSES} processes in all: annlib under the strategy {annlib:,.0f} MB, "
        f"plain Keras {keras:,.0f} MB."
    )
    return lines


def projection_table(scaling: Scaling) -> Table:
    """Returns weak efficiency and strong speed-up on named networks, for a few numbers of workers."""
    title = "Projected; the network alone / behind the collectives' own cost as measured with 2 workers here"
    table = Table("model", "network", *(f"weak, {count}" for count in PROJECTED), *(f"strong, {c}" for c in PROJECTED))
    table.title = title
    table.caption = (
        f"Weak: efficiency, {ROWS} rows a worker. Strong: speed-up, {PROJECTED_ROWS:,} rows in all. Latency and "
        "bandwidth of the networks are assumptions."
    )
    for model in MODELS:
        for name, links in scaling.networks().items():
            weak_shares = [[scaling.weak_efficiency(model, count, link) for link in links] for count in PROJECTED]
            speed_ups = [[scaling.strong_speed_up(model, count, link) for link in links] for count in PROJECTED]
            table.add_row(
                model,
                name,
                *(" / ".join(f"{share:.0%}" for share in shares) for shares in weak_shares),
                *(" / ".join(f"{factor:.3g}" for factor in factors) for factors in speed_ups),
            )
        table.add_section()
    return table
