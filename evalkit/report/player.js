"use strict";
// One utterance's sounds on one clock: `position` goes on while they are exchanged.
const FADE = 0.01; // seconds of a crossfade
const LEAD = 0.005; // what starts is scheduled this far ahead, so that old and new change at one moment

class Player {
  constructor() {
    this.context = null;
    this.ticket = 0;
    this.voice = null;
    this.running = false;
    this.load([], 0);
  }

  load(sounds, seconds) {
    this.pause();
    this.sounds = sounds;
    this.seconds = seconds;
    this.buffers = [];
    this.offset = 0;
  }

  get position() {
    const now = this.running ? this.offset + this.context.currentTime - this.started : this.offset;
    return Math.min(this.seconds, Math.max(0, now));
  }

  buffer(sound) {
    this.buffers[sound] ??= this.decode(this.sounds[sound]);
    return this.buffers[sound];
  }

  async decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    return this.context.decodeAudioData(bytes.buffer);
  }

  // Fade over to `sound`; what sounds now goes on until the other is ready. False: overtaken by another call.
  async play(sound) {
    const ticket = ++this.ticket;
    this.context ??= new AudioContext();
    this.context.resume();
    const buffer = await this.buffer(sound);
    if (ticket !== this.ticket) return false;
    const when = this.context.currentTime + LEAD;
    const at = this.running ? this.position + LEAD : this.offset;
    this.fadeOut(when);
    if (at < buffer.duration) this.voice = this.fadeIn(buffer, when, at);
    this.offset = at;
    this.started = when;
    this.running = true;
    return true;
  }

  fadeIn(buffer, when, at) {
    const source = this.context.createBufferSource();
    const gain = this.context.createGain();
    source.buffer = buffer;
    source.connect(gain).connect(this.context.destination);
    gain.gain.setValueAtTime(0, when);
    gain.gain.linearRampToValueAtTime(1, when + FADE);
    source.start(when, at);
    return { source, gain };
  }

  fadeOut(when) {
    if (!this.voice) return;
    this.voice.gain.gain.setValueAtTime(1, when);
    this.voice.gain.gain.linearRampToValueAtTime(0, when + FADE);
    this.voice.source.stop(when + FADE);
    this.voice = null;
  }

  pause() {
    this.ticket++;
    this.offset = this.position;
    this.running = false;
    if (this.voice) this.fadeOut(this.context.currentTime);
  }

  // Goes on from there only by `play`.
  moveTo(seconds) {
    this.ticket++;
    this.offset = Math.min(this.seconds, Math.max(0, seconds));
    this.running = false;
  }

  async decodeAll() {
    const { buffers } = this;
    for (let sound = 0; sound < this.sounds.length && buffers === this.buffers; sound++) {
      await this.buffer(sound).catch(() => null); // it is told when it is to be played
    }
  }
}
