/** All ways for a picture to come in: chosen, taken, dropped anywhere, pasted. */

/**
 * @param {HTMLInputElement[]} inputs of files.
 * @param {(file: File, more: number) => void} take gets a file, and how many others came along.
 * @param {(line: string) => void} complain gets what to tell when there was none.
 */
export function receiveFiles(inputs, take, complain) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same one can be chosen again
      if (files.length > 0) {
        take(files[0], files.length - 1);
      }
    });
  }
  const root = document.documentElement;
  let inside = 0; // enter and leave come for every element that is crossed
  const leave = () => {
    inside = 0;
    root.classList.remove("dropping");
  };
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    inside += 1;
    root.classList.add("dropping");
  });
  addEventListener("dragleave", () => {
    inside -= 1;
    if (inside <= 0) {
      leave();
    }
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    leave();
    const files = [...event.dataTransfer.files];
    if (files.length > 0) {
      take(files[0], files.length - 1);
    } else {
      complain("That was no file: save the picture first, then drop it here.");
    }
  });
  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length > 0) {
      take(files[0], files.length - 1);
    } else if (!event.target.closest?.("input")) {
      complain("There is no picture in the clipboard.");
    }
  });
}
