"""The pages: one line each. A new screen is one file in `pages/` and one line here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Screen:
    """script: path from the repository root. group: heading in the sidebar. question: title of the page."""

    name: str
    script: str
    label: str
    group: str
    icon: str
    question: str


PAGES = (
    Screen("overview", "app.py", "Overview", "Evidence", ":material/insights:", "What does the evidence say?"),
    Screen("compare", "pages/compare.py", "Compare", "Evidence", ":material/scatter_plot:", "What do I trade for what?"),
    Screen("leaderboard", "pages/leaderboard.py", "Leaderboard", "Evidence", ":material/leaderboard:", "Which methods are good, consistently?"),
    Screen("consistency", "pages/consistency.py", "Consistency", "Evidence", ":material/grid_on:", "Does it hold elsewhere?"),
    Screen("privacy", "pages/privacy.py", "Privacy", "Evidence", ":material/shield_person:", "Who is still exposed?"),
    Screen("search", "pages/search.py", "Search", "Evidence", ":material/tune:", "How were settings found, and are they fragile?"),
    Screen("inside", "pages/inside.py", "Inside", "Evidence", ":material/biotech:", "What changed in the model?"),
    Screen("advisor", "pages/advisor.py", "Advisor", "Evidence", ":material/checklist:", "What should I use?"),
    Screen("reproduction", "pages/reproduction.py", "Reproduction", "Evidence", ":material/fact_check:", "Do published numbers hold?"),
    Screen("lab", "pages/lab.py", "Lab", "Try it", ":material/experiment:", "What happens if I run it myself?"),
    Screen("data", "pages/data.py", "Data", "Try it", ":material/database:", "Can I have it all?"),
)


def screen(name: str) -> Screen:
    return next(page for page in PAGES if page.name == name)
