/** The line between before and after: by mouse, finger and keyboard. */

const STEP = 2; // percent
const LARGE_STEP = 10;

export class Slider {
  /**
   * @param {HTMLElement} stage what is dragged on; its --line is the place in percent of its width.
   * @param {HTMLElement} handle has role="slider" and the keyboard's focus.
   */
  constructor(stage, handle) {
    this.stage = stage;
    this.handle = handle;
    this.enabled = false;
    stage.addEventListener("pointerdown", (event) => this.#grab(event));
    stage.addEventListener("pointermove", (event) => this.#drag(event));
    handle.addEventListener("keydown", (event) => this.#press(event));
    this.move(100);
  }

  /** @param {number} place of the line from the left in percent. */
  move(place) {
    this.place = Math.min(Math.max(place, 0), 100);
    const shown = Math.round(this.place);
    this.stage.style.setProperty("--line", `${this.place}%`);
    this.handle.setAttribute("aria-valuenow", shown);
    this.handle.setAttribute("aria-valuetext", `${shown} % before, ${100 - shown} % after`);
  }

  /** Go to a place gradually, unless the visitor wants no motion. */
  glide(place) {
    if (matchMedia("(prefers-reduced-motion: no-preference)").matches) {
      this.stage.classList.add("gliding");
      this.stage.addEventListener("transitionend", () => this.stage.classList.remove("gliding"), { once: true });
    }
    this.move(place);
  }

  #grab(event) {
    if (this.enabled && event.button === 0) {
      event.preventDefault(); // no selection, and the focus goes to the handle
      this.stage.setPointerCapture(event.pointerId);
      this.handle.focus({ preventScroll: true });
      this.#follow(event);
    }
  }

  #drag(event) {
    if (this.enabled && this.stage.hasPointerCapture(event.pointerId)) {
      this.#follow(event);
    }
  }

  #follow(event) {
    this.stage.classList.remove("gliding");
    const box = this.stage.getBoundingClientRect();
    this.move((100 * (event.clientX - box.left)) / box.width);
  }

  #press(event) {
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const places = {
      ArrowLeft: this.place - step,
      ArrowDown: this.place - step,
      ArrowRight: this.place + step,
      ArrowUp: this.place + step,
      PageDown: this.place - LARGE_STEP,
      PageUp: this.place + LARGE_STEP,
      Home: 0,
      End: 100,
    };
    if (this.enabled && event.key in places) {
      event.preventDefault();
      this.stage.classList.remove("gliding");
      this.move(places[event.key]);
    }
  }
}
