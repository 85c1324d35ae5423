"""The order in which an inference calls the layers: once each, or strip by strip."""

from .program import Program

__all__ = ["all_calls"]


def all_calls(program: Program, is_timed: bool) -> str:
    """The layers in order, all threads waiting for each other after each; what is in a loop for each strip."""
    firsts = {loop.first: loop for loop in program.loops}
    inside = {place for loop in program.loops for place in range(loop.first, loop.end)}
    lines = ["  double from = now_us(), to;\n"] if is_timed else []
    for place, name in enumerate(program.calls):
        is_repeated = place in inside
        if place in firsts:
            loop = firsts[place]
            if is_timed:
                lines.append(f"  if (!t) for (int i = {place}; i < {loop.end}; i++) times_us[i] = 0;\n")
            lines.append(f"  for (int s = 0; s < {loop.count}; s++) {{\n")
        lines.append(f"  {name}(n, t{', s' if is_repeated else ''});\n  wait_for_all(n, t);\n")
        if is_timed:
            step = "+=" if is_repeated else "="
            lines.append(f"  to = now_us();\n  if (!t) times_us[{place}] {step} to - from;\n  from = to;\n")
        if any(place + 1 == loop.end for loop in program.loops):
            lines.append("  }\n")
    return "".join(lines)
