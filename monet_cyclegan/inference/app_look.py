"""How the page of `app` looks: a quiet wall, by day and by night, in fonts that the visitor's machine has."""

from __future__ import annotations

import gradio as gr

SERIF = ["Iowan Old Style", "Palatino Linotype", "Palatino", "P052", "Georgia"]
SANS = ["Avenir Next", "Avenir", "Segoe UI", "Cantarell", "Noto Sans", "system-ui", "sans-serif"]

POND = gr.themes.Color(  # from the water lilies' greens and blues
    name="pond",
    c50="#f1f6f5",
    c100="#dde9e7",
    c200="#bcd4d0",
    c300="#93b9b4",
    c400="#6a9a95",
    c500="#4c7d79",
    c600="#3b6663",
    c700="#315351",
    c800="#294443",
    c900="#233938",
    c950="#142322",
)
PAPER = gr.themes.Color(
    name="paper",
    c50="#fbfaf7",
    c100="#f5f2ec",
    c200="#e8e3d9",
    c300="#d5cec0",
    c400="#a9a193",
    c500="#7f786c",
    c600="#605a51",
    c700="#47433c",
    c800="#2b2925",
    c900="#1e1c1a",
    c950="#151412",
)

THEME = gr.themes.Base(
    primary_hue=POND,
    secondary_hue=POND,
    neutral_hue=PAPER,
    radius_size=gr.themes.sizes.radius_sm,
    font=SANS,
    font_mono=["ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_100",
    body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_border_width="0px",
    block_border_width_dark="0px",
    block_shadow="none",
    block_shadow_dark="none",
    block_padding="0",
    block_title_text_weight="600",
    block_title_text_size="*text_sm",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_300",
    block_info_text_size="12px",
    layout_gap="18px",
    input_background_fill="*neutral_50",
    input_background_fill_dark="*neutral_900",
    checkbox_label_background_fill="*neutral_50",
    checkbox_label_background_fill_dark="*neutral_900",
    checkbox_label_shadow="none",
    slider_color="*primary_500",
    slider_color_dark="*primary_400",
    loader_color="*primary_500",
    loader_color_dark="*primary_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_500",
    button_primary_text_color="white",
)

_SERIF = ", ".join(f"'{name}'" for name in SERIF) + ", serif"
CSS = f"""
.gradio-container {{ max-width: 1180px !important; margin: 0 auto !important; }}
.gradio-container > .main {{ padding: 26px 24px 16px !important; }}
#heading h1 {{ font-family: {_SERIF}; font-weight: 400; font-size: 38px;
  letter-spacing: .01em; line-height: 1.15; margin: 0 0 6px; }}
#heading p {{ margin: 0; font-size: 15px; color: var(--body-text-color-subdued); }}
#room {{ display: grid; gap: 18px 40px; align-items: start;
  grid: "easel wall" auto "choices wall" 1fr / minmax(0, 2fr) minmax(0, 3fr); }}
#easel {{ grid-area: easel; gap: 12px; }} #wall {{ grid-area: wall; gap: 14px; }} #choices {{ grid-area: choices; }}
#photo {{ border: 1px dashed var(--neutral-400); background: var(--neutral-50); }}
.dark #photo {{ background: var(--neutral-900); border-color: var(--neutral-600); }}
#samples .gallery {{ display: grid; grid-template-columns: repeat(5, 1fr); gap: 8px; }}
#samples .gallery :is(button, span, div) {{ display: block; width: 100%; height: auto; max-width: none;
  max-height: none; border-radius: 2px; }}
#samples img {{ display: block; width: 100% !important; height: auto !important; max-width: none; max-height: none;
  aspect-ratio: 1; object-fit: cover; }}
#choices .form {{ background: none; gap: 16px; overflow: visible; }}
#choices fieldset, #choices .block {{ overflow: visible !important; }}
#choices fieldset .wrap {{ gap: 8px; }}
#choices fieldset label {{ padding: 6px 11px; font-size: 14px; }}
#strength .head input {{ width: 64px; text-align: center; }}
#slider {{ background: #fff; border: 1px solid var(--neutral-200); padding: 16px; min-height: 240px;
  box-shadow: 0 1px 2px rgb(40 30 10 / 8%), 0 14px 34px rgb(40 30 10 / 10%); }}
.dark #slider {{ background: var(--neutral-900); border-color: var(--neutral-800); box-shadow: none; }}
#slider .empty {{ min-height: 560px; background: none; border: 0; }}
#slider .empty .icon {{ display: none; }}
#slider .empty::after {{ content: "Your picture will hang here"; font: italic 17px {_SERIF};
  color: var(--body-text-color-subdued); }}
#slider > .wrap:not(.hide) ~ .empty::after {{ visibility: hidden; }}
#slider > .wrap.full:not(.hide) {{ background: color-mix(in srgb, var(--body-background-fill) 78%, transparent); }}
#slider .icon-wrap {{ background: var(--primary-600); color: #fff; }}
#caption {{ align-items: center; flex-wrap: nowrap; min-height: 44px; }}
#facts p {{ font-size: 14px; color: var(--body-text-color-subdued); margin: 0; }}
#download {{ flex: none; width: auto; padding: 9px 26px; margin-left: auto; font-size: 15px; font-weight: 500; }}
footer {{ display: none !important; }}
@media (max-width: 760px) {{
  .gradio-container > .main {{ padding: 18px 14px !important; }}
  #heading h1 {{ font-size: 30px; }}
  #room {{ grid: "easel" "wall" "choices" / minmax(0, 1fr); gap: 20px; }}
  #slider {{ padding: 8px; min-height: 120px; }}
  #slider .empty {{ min-height: 120px; }}
}}
"""

FAVICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="6" fill="#3b6663"/>
<ellipse cx="16" cy="21" rx="11" ry="5" fill="#93b9b4"/><path d="M16 8c4 4 4 9 0 12-4-3-4-8 0-12z" fill="#f3d9df"/>
<path d="M8 12c5 0 8 4 8 8-5 0-8-3-8-8zm16 0c-5 0-8 4-8 8 5 0 8-3 8-8z" fill="#e6b9c6"/></svg>
"""
